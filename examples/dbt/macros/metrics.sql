{#- The day on which a moment in UTC falls in circleci_timezone. -#}
{% macro day(moment) %}{{ return('cast(' ~ circleci.local(moment) ~ ' as date)') }}{% endmacro %}


{#- The Monday of the week, or the first day of the month, of a moment, likewise. -#}
{% macro week(moment) %}{{ return(circleci.first_day_of('week', circleci.day(moment))) }}{% endmacro %}
{% macro month(moment) %}{{ return(circleci.first_day_of('month', circleci.day(moment))) }}{% endmacro %}


{#- Whether a text matches a regular expression of the variables, in any letter case. -#}
{% macro matches(text, pattern) %}
    {{ return('(' ~ circleci.line_with(text, pattern) ~ ' is not null)') }}
{% endmacro %}


{#- The status of a workflow or job as one of success, failed, canceled, not_run; null while it is not final. -#}
{% macro result(status) -%}
    case
        when {{ status }} = 'success' then 'success'
        when {{ status }} in ('failed', 'error', 'timedout', 'infrastructure_fail', 'terminated-unknown', 'unauthorized')
            then 'failed'
        when {{ status }} = 'canceled' then 'canceled'
        when {{ status }} = 'not_run' then 'not_run'
    end
{%- endmacro %}


{#- The share of some among all, null if there are none. -#}
{% macro share(some, all) %}
    {{ return('(cast(' ~ some ~ ' as ' ~ circleci.type('double') ~ ') / nullif(' ~ all ~ ', 0))') }}
{% endmacro %}


{#- What credits cost. -#}
{% macro price(credits) %}{{ return('(' ~ credits ~ ') * ' ~ var('circleci_credit_price', 0.0006)) }}{% endmacro %}


{#- The whole numbers from 0 to 999, a row each. -#}
{% macro numbers() -%}
    select ones.digit + 10 * tens.digit + 100 * hundreds.digit as number
    from ({{ circleci.digits() }}) as ones
    cross join ({{ circleci.digits() }}) as tens
    cross join ({{ circleci.digits() }}) as hundreds
{%- endmacro %}

{% macro digits() -%}
    {%- for digit in range(10) %}select {{ digit }} as digit{{ ' union all ' if not loop.last }}{% endfor -%}
{%- endmacro %}
