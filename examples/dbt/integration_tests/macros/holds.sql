{#- A model holds just the rows of a seed, in the seed's columns, of those that fulfil a condition; fractions are compared to
    the millionth. There are two worlds: the project shop, and tools with its failures, costs and waits. -#}
{% macro holds(model, seed, condition="project_slug = 'gh/acme/shop'") %}
    {%- set columns = {} -%}
    {%- for column in (adapter.get_columns_in_relation(ref(seed)) if execute else []) -%}
        {%- do columns.update({column.name | lower: none}) -%}
    {%- endfor -%}
    {%- for column in (adapter.get_columns_in_relation(model) if execute else []) if column.name | lower in columns -%}
        {%- do columns.update({column.name | lower: column.dtype | lower}) -%}
    {%- endfor -%}
    {%- set have, want = [], [] -%}
    {%- for name, type in columns.items() -%}
        {%- set quoted = circleci.column(name) -%}
        {%- set is_fraction = 'double' in type or 'float' in type or 'numeric' in type -%}
        {%- set shown = 'round(cast(%s as decimal(24, 9)), 6)' if is_fraction else 'cast(%s as ' ~ (type or 'text') ~ ')' -%}
        {%- set text = circleci.type('text') -%}
        {%- do have.append(shown % quoted ~ ' as ' ~ quoted) -%}
        {#- Through text: an empty column of a seed has no type of its own. -#}
        {%- do want.append(shown % ('cast(' ~ quoted ~ ' as ' ~ text ~ ')') ~ ' as ' ~ quoted) -%}
    {%- endfor -%}
    {%- set names = columns | map('lower') | list -%}
select {{ names | join(', ') or '1' }}, sum(unexpected) as unexpected
from (
    select {{ have | join(', ') or '1' }}, 1 as unexpected from {{ model }} where {{ condition }}
    union all
    select {{ want | join(', ') or '1' }}, -1 as unexpected from {{ ref(seed) }}
) as compared
group by {{ names | join(', ') or '1' }}
having sum(unexpected) <> 0
{% endmacro %}
