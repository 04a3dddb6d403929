{#- The rules of circleci_failure_rules, best first, read when a model is compiled: not every warehouse takes a regular
    expression from a column. -#}
{% macro failure_rules() %}
    {%- if not execute -%}{{ return([]) }}{%- endif -%}
    {%- set relation = ref('circleci_failure_rules') -%}
    {%- if load_relation(relation) is none -%}
        {%- do log('There is no table ' ~ relation ~ ' (yet): no failure is explained. `dbt build` or `dbt seed` loads it.', info=true) -%}
        {{ return([]) }}
    {%- endif -%}
    {%- set found = run_query('select priority, place, pattern, class, reason from ' ~ relation) -%}
    {%- set rules = [] -%}
    {%- for row in found.rows -%}
        {%- do rules.append({
            'priority': row[0] | int, 'place': row[1] | string, 'pattern': row[2] | string, 'class': row[3] | string,
            'reason': row[4] | string,
        }) -%}
    {%- endfor -%}
    {#- Sorted here: warehouses sort texts by rules of their own. -#}
    {{ return(rules | sort(case_sensitive=true, attribute='priority,place,pattern,class,reason')) }}
{% endmacro %}


{#- For each of some rules one value where an expression holds that rule's number, else null. -#}
{% macro of_rule(rules, key, number) -%}
    {%- if not rules -%}cast(null as {{ circleci.type('text') }})
    {%- else -%}
    case {{ number }}
        {%- for rule in rules %}
        when {{ loop.index }} then {{ circleci.literal(rule[key]) }}
        {%- endfor %}
    end
    {%- endif -%}
{%- endmacro %}


{#- The line in which the rule of an expression's number was found. -#}
{% macro line_of_rule(rules, text, number) -%}
    {%- if not rules -%}cast(null as {{ circleci.type('text') }})
    {%- else -%}
    case {{ number }}
        {%- for rule in rules %}
        when {{ loop.index }} then {{ circleci.line_with(text, rule.pattern) }}
        {%- endfor %}
    end
    {%- endif -%}
{%- endmacro %}


{#- The number of the first rule for a place that is found in a text, null if none is. -#}
{% macro first_rule(rules, place, text) -%}
    {%- if not rules -%}cast(null as {{ circleci.type('bigint') }})
    {%- else -%}
    case
        {%- for rule in rules %}
        when {{ place }} = {{ circleci.literal(rule.place) }} and {{ circleci.matches(text, rule.pattern) }} then {{ loop.index }}
        {%- endfor %}
    end
    {%- endif -%}
{%- endmacro %}
