{#- A model holds just the rows of a seed, in the seed's columns; fractions are compared to the millionth. -#}
{% macro holds(model, seed) %}
    {%- set columns = [] -%}
    {%- for column in (adapter.get_columns_in_relation(ref(seed)) if execute else []) -%}
        {%- set name = adapter.quote(column.name) -%}
        {%- set numeric = column.dtype | lower in ('double', 'double precision', 'float', 'numeric') -%}
        {%- do columns.append(('round(cast(' ~ name ~ ' as decimal(24, 9)), 6)' if numeric else name) ~ ' as ' ~ name) -%}
    {%- endfor -%}
    {%- set columns = columns | join(', ') or '*' %}
with have as (select {{ columns }} from {{ model }}), want as (select {{ columns }} from {{ ref(seed) }})

(select 'missing' as what, want.* from want except all select 'missing', have.* from have)
union all
(select 'unexpected' as what, have.* from have except all select 'unexpected', want.* from want)
{% endmacro %}
