{#- The table of a stream, as the target loaded it. Projects that keep it elsewhere dispatch this macro. -#}
{% macro stream(name) %}
    {{ return(adapter.dispatch('stream', 'circleci')(name)) }}
{% endmacro %}

{% macro default__stream(name) %}
    {{ return(source('circleci', name)) }}
{% endmacro %}


{#- The columns of a stream's table by their names in small letters with underscores; none without a table.

    Targets make a table with its first row, so a table that is missing means no rows yet. That holds for most streams,
    but who loads anything has pipelines, workflows and jobs: there a missing table is a mistake in the variables. -#}
{% macro columns_of(name) %}
    {%- set relation = circleci.stream(name) -%}
    {%- set found = {} -%}
    {%- if execute -%}
        {%- set table = load_relation(relation) -%}
        {%- for column in (adapter.get_columns_in_relation(table) if table is not none else []) -%}
            {%- do found.update({column.name | lower | replace('-', '_'): column}) -%}
        {%- endfor -%}
        {%- if not found and name in ['pipelines', 'workflows', 'jobs'] -%}
            {%- do exceptions.raise_compiler_error(
                'There is no table ' ~ relation ~ ', which these models need. Set circleci_schema (and circleci_database)'
                ~ ' to where the target loads to, and check that the sync has loaded the stream ' ~ name ~ '.'
            ) -%}
        {%- elif not found -%}
            {%- do log('There is no table ' ~ relation ~ ' (yet): ' ~ model.name ~ ' is empty.', info=true) -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}


{#- The latest row of each key, its columns typed, and `loaded_at`, when the target loaded it (null if it does not say).

    `columns` maps names to text, bigint, double, boolean, timestamp (UTC, without zone) or json. A column that the
    table lacks is null. `then_by` decides where no column of circleci_latest_by does. Rows marked as deleted are left
    out. -#}
{% macro latest(name, key, columns, then_by=[]) %}
    {%- set relation = circleci.stream(name) -%}
    {%- set found = circleci.columns_of(name) -%}
    {%- set order = [] -%}
    {%- for column in var('circleci_latest_by', []) + then_by if column in found -%}
        {%- do order.append(adapter.quote(found[column].name) ~ ' desc nulls last') -%}
    {%- endfor -%}
    {%- set loaded = ['_sdc_batched_at', '_sdc_received_at', '_sdc_extracted_at'] | select('in', found) | first -%}
    select
    {%- for column, type in columns.items() %}
        {{ circleci.typed(found.get(column), type) }} as {{ circleci.column(column) }},
    {%- endfor %}
        {{ circleci.typed(found.get(loaded), 'timestamp') }} as loaded_at
    {%- if found %}
    from (
        select *, row_number() over (
            partition by {% for column in key %}{{ adapter.quote(found[column].name) }}{{ ', ' if not loop.last }}{% endfor %}
            order by {{ order | join(', ') if order else adapter.quote(found[key[0]].name) }}
        ) as circleci_version
        from {{ relation }}
    ) as versions
    where circleci_version = 1
    {%- if '_sdc_deleted_at' in found %} and {{ adapter.quote(found['_sdc_deleted_at'].name) }} is null{% endif %}
    {%- else %}
    from (select 1 as nothing) as nothing
    where 1 = 0
    {%- endif %}
{% endmacro %}


{#- A column of a table as a type, null if there is no such column. -#}
{% macro typed(column, type) %}
    {%- if column is none or column is undefined -%}
        cast(null as {{ circleci.type(type) }})
    {%- else -%}
        {%- set name, stored = adapter.quote(column.name), column.dtype | lower -%}
        {%- if type == 'json' -%}
            {{ circleci.to_json(name, stored) }}
        {%- elif type == 'timestamp' -%}
            {{ circleci.to_timestamp(name, stored) }}
        {%- else -%}
            cast({{ name }} as {{ circleci.type(type) }})
        {%- endif -%}
    {%- endif -%}
{% endmacro %}
