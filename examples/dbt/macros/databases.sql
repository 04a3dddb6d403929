{#- Where DuckDB and PostgreSQL differ. -#}

{% macro json_type() %}{{ return(adapter.dispatch('json_type', 'circleci')()) }}{% endmacro %}
{% macro default__json_type() %}{{ return('json') }}{% endmacro %}
{% macro postgres__json_type() %}{{ return('jsonb') }}{% endmacro %}


{#- A column that holds JSON in whatever type, as JSON. -#}
{% macro to_json(name, stored) %}{{ return(adapter.dispatch('to_json', 'circleci')(name, stored)) }}{% endmacro %}

{% macro default__to_json(name, stored) %}
    {%- set holds_json = 'json' in stored or 'char' in stored or 'text' in stored -%}
    {{ return(('cast(' ~ name ~ ' as json)') if holds_json else ('to_json(' ~ name ~ ')')) }}
{% endmacro %}

{% macro postgres__to_json(name, stored) %}
    {%- set json = ('to_jsonb(' ~ name ~ ')') if stored == 'array' or '[]' in stored else ('cast(' ~ name ~ ' as jsonb)') -%}
    {{ return('nullif(' ~ json ~ ", cast('null' as jsonb))") }}
{% endmacro %}


{#- The text at a path of names in a JSON column, null if there is none. -#}
{% macro json_text(column, path) %}{{ return(adapter.dispatch('json_text', 'circleci')(column, path)) }}{% endmacro %}

{% macro default__json_text(column, path) %}
    {{ return('json_extract_string(' ~ column ~ ", '$." ~ path | join('.') ~ "')") }}
{% endmacro %}

{% macro postgres__json_text(column, path) %}
    {{ return('(' ~ column ~ " #>> '{" ~ path | join(',') ~ "}')") }}
{% endmacro %}


{#- Whether a text matches a regular expression. -#}
{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches', 'circleci')(text, dbt.escape_single_quotes(pattern))) }}{% endmacro %}
{% macro default__matches(text, pattern) %}{{ return('regexp_matches(' ~ text ~ ", '" ~ pattern ~ "')") }}{% endmacro %}
{% macro postgres__matches(text, pattern) %}{{ return('(' ~ text ~ " ~ '" ~ pattern ~ "')") }}{% endmacro %}


{#- The weeks from one to another, a row each. -#}
{% macro weeks(first, last) %}{{ return(adapter.dispatch('weeks', 'circleci')(first, last)) }}{% endmacro %}
{% macro default__weeks(first, last) %}{{ return("unnest(generate_series(cast(" ~ first ~ " as timestamp), cast(" ~ last ~ " as timestamp), interval '7 days'))") }}{% endmacro %}
{% macro postgres__weeks(first, last) %}{{ return("generate_series(cast(" ~ first ~ " as timestamp), cast(" ~ last ~ " as timestamp), interval '7 days')") }}{% endmacro %}
