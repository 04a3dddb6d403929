{#- Tables that grow are built by key: what was loaded since the last build, with a day to spare for loads that overlap it,
    and the rows whose context (names, people, results) has changed since. Rows without loaded_at always count. -#}


{#- When the rows of the model's own table were loaded at last, less the day. -#}
{% macro watermark() -%}
    select {{ circleci.plus_hours('max(loaded_at)', -24) }} as moment from {{ this }}
{%- endmacro %}


{#- Whether a row was loaded since; `watermark` is joined. -#}
{% macro is_new(loaded_at) %}{{ return('coalesce(' ~ loaded_at ~ ' > watermark.moment, true)') }}{% endmacro %}


{#- Whether one of some columns differs between two tables; nulls are alike. -#}
{% macro differs(one, other, columns) -%}
    (
    {%- for column in columns %}
        coalesce(cast({{ one }}.{{ column }} as {{ circleci.type('text') }}), '')
        <> coalesce(cast({{ other }}.{{ column }} as {{ circleci.type('text') }}), '')
        {{- ' or' if not loop.last }}
    {%- endfor %}
    )
{%- endmacro %}
