{#- Seconds from one moment to another, null if one is missing. -#}
{% macro seconds(first, last) %}
    {{- return('cast(extract(epoch from (' ~ last ~ ' - ' ~ first ~ ')) as double precision)') -}}
{% endmacro %}


{#- The day on which a moment in UTC falls in circleci_timezone. -#}
{% macro day(moment) %}
    {{- return('cast((' ~ moment ~ " at time zone 'UTC') at time zone '" ~ var('circleci_timezone', 'UTC') ~ "' as date)") -}}
{% endmacro %}


{#- The Monday of the week of a moment, likewise. -#}
{% macro week(moment) %}
    {{- return("cast(date_trunc('week', " ~ circleci.day(moment) ~ ') as date)') -}}
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


{#- The percentile of an expression's values. -#}
{% macro percentile(expression, share) %}
    {{- return('percentile_cont(' ~ share ~ ') within group (order by ' ~ expression ~ ')') -}}
{% endmacro %}
