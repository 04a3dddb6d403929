{#- dbt-spark's local sessions load an empty cell as the text "None"; here it is null. -#}
{% macro spark__load_csv_rows(model, agate_table) %}
    {%- set rows = [] -%}
    {%- for row in agate_table.rows -%}
        {%- set cells = [] -%}
        {%- for value in row.values() -%}
            {%- set text = 'null' if value is none else circleci.literal(value | string) -%}
            {%- do cells.append('cast(' ~ text ~ ' as ' ~ adapter.convert_type(agate_table, loop.index0) ~ ')') -%}
        {%- endfor -%}
        {%- do rows.append('(' ~ cells | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- set statement = 'insert into ' ~ this ~ ' values ' ~ rows | join(', ') -%}
    {%- if rows -%}{%- do adapter.add_query(statement, abridge_sql_log=True) -%}{%- endif -%}
    {{ return(statement) }}
{% endmacro %}
