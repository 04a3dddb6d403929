{#- The table of a stream, as the target loaded it. Projects that keep it elsewhere dispatch this macro. -#}
{% macro stream(name) %}
    {{ return(adapter.dispatch('stream', 'circleci')(name)) }}
{% endmacro %}

{% macro default__stream(name) %}
    {{ return(source('circleci', name)) }}
{% endmacro %}


{#- The latest row of each key, its columns typed.

    `columns` maps names to text, bigint, double precision, boolean, timestamp (UTC, without zone) or json. A column
    that the table lacks is null; without a table there are no rows, since targets make a table with its first row.
    `then_by` decides where no column of circleci_latest_by does. Rows marked as deleted are left out. -#}
{% macro latest(name, key, columns, then_by=[]) %}
    {%- set relation = circleci.stream(name) -%}
    {%- set found = {} -%}
    {%- if execute -%}
        {%- set table = load_relation(relation) -%}
        {%- for column in (adapter.get_columns_in_relation(table) if table is not none else []) -%}
            {%- do found.update({column.name | lower | replace('-', '_'): column}) -%}
        {%- endfor -%}
        {%- if not found -%}
            {%- do log('There is no table ' ~ relation ~ ' (yet): ' ~ model.name ~ ' is empty.', info=true) -%}
        {%- endif -%}
    {%- endif -%}
    {%- set order = [] -%}
    {%- for column in var('circleci_latest_by', []) + then_by if column in found -%}
        {%- do order.append(adapter.quote(found[column].name) ~ ' desc nulls last') -%}
    {%- endfor -%}
    select
    {%- for column, type in columns.items() %}
        {{ circleci.typed(found.get(column), type) }} as {{ adapter.quote(column) }}
        {{- ',' if not loop.last }}
    {%- endfor %}
    {%- if found %}
    from (
        select *, row_number() over (
            partition by {% for column in key %}{{ adapter.quote(found[column].name) }}{{ ', ' if not loop.last }}{% endfor %}
            {{ 'order by ' ~ order | join(', ') if order }}
        ) as circleci_version
        from {{ relation }}
    ) as versions
    where circleci_version = 1
    {%- if '_sdc_deleted_at' in found %} and _sdc_deleted_at is null{% endif %}
    {%- else %}
    where 1 = 0
    {%- endif %}
{% endmacro %}


{#- A column of a table as a type, null if there is no such column. -#}
{% macro typed(column, type) %}
    {%- if column is none -%}
        cast(null as {{ circleci.json_type() if type == 'json' else type }})
    {%- else -%}
        {%- set name, stored = adapter.quote(column.name), column.dtype | lower -%}
        {%- if type == 'json' -%}
            {{ circleci.to_json(name, stored) }}
        {%- elif type == 'timestamp' and ('with time zone' in stored or 'timestamptz' in stored) -%}
            ({{ name }} at time zone 'UTC')
        {%- elif type == 'timestamp' and 'time' not in stored -%}
            (cast({{ name }} as timestamp with time zone) at time zone 'UTC')
        {%- else -%}
            cast({{ name }} as {{ type }})
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
