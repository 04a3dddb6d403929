{#- All that differs between warehouses: DuckDB (the default), PostgreSQL, Redshift, Snowflake, Spark and Databricks,
    BigQuery. Models and the other macros name no warehouse. -#}


{#- The warehouse's name of a type: text, bigint, double, boolean, date, timestamp (UTC, without zone) or json. -#}
{% macro type(name) %}{{ return(adapter.dispatch('types', 'circleci')().get(name, name)) }}{% endmacro %}
{% macro default__types() %}{{ return({'double': 'double precision'}) }}{% endmacro %}
{% macro postgres__types() %}{{ return({'double': 'double precision', 'json': 'jsonb'}) }}{% endmacro %}
{% macro redshift__types() %}
    {{ return({'double': 'double precision', 'text': 'varchar(65535)', 'json': 'varchar(65535)'}) }}
{% endmacro %}
{% macro snowflake__types() %}
    {{ return({'text': 'varchar', 'timestamp': 'timestamp_ntz', 'json': 'variant'}) }}
{% endmacro %}
{% macro spark__types() %}{{ return({'text': 'string', 'json': 'string'}) }}{% endmacro %}
{% macro bigquery__types() %}
    {{ return({'text': 'string', 'bigint': 'int64', 'double': 'float64', 'boolean': 'bool'}) }}
{% endmacro %}


{#- A column of a model, quoted: some names are reserved somewhere. -#}
{% macro column(name) %}{{ return(adapter.dispatch('column', 'circleci')(name)) }}{% endmacro %}
{% macro default__column(name) %}{{ return(adapter.quote(name)) }}{% endmacro %}
{% macro snowflake__column(name) %}{{ return(adapter.quote(name | upper)) }}{% endmacro %}


{#- A stored column as a timestamp in UTC without zone, from its type in small letters. -#}
{% macro to_timestamp(name, stored) %}{{ return(adapter.dispatch('to_timestamp', 'circleci')(name, stored)) }}{% endmacro %}
{% macro default__to_timestamp(name, stored) %}
    {%- if 'with time zone' in stored or 'timestamptz' in stored -%}
        {{ return('(' ~ name ~ " at time zone 'UTC')") }}
    {%- elif 'time' in stored or 'date' in stored -%}
        {{ return('cast(' ~ name ~ ' as timestamp)') }}
    {%- else -%}
        {{ return('(cast(' ~ name ~ " as timestamp with time zone) at time zone 'UTC')") }}
    {%- endif -%}
{% endmacro %}
{% macro snowflake__to_timestamp(name, stored) %}
    {%- if 'ntz' in stored or 'date' in stored -%}
        {{ return('cast(' ~ name ~ ' as timestamp_ntz)') }}
    {%- else -%}
        {%- set zoned = name if 'time' in stored else 'to_timestamp_tz(' ~ name ~ ')' -%}
        {{ return("cast(convert_timezone('UTC', " ~ zoned ~ ') as timestamp_ntz)') }}
    {%- endif -%}
{% endmacro %}
{% macro spark__to_timestamp(name, stored) %}{{ return('cast(' ~ name ~ ' as timestamp)') }}{% endmacro %}
{% macro bigquery__to_timestamp(name, stored) %}
    {{ return(name if stored == 'timestamp' else 'timestamp(' ~ name ~ ')') }}
{% endmacro %}


{#- A stored column that holds JSON, of any type, as JSON. -#}
{% macro to_json(name, stored) %}{{ return(adapter.dispatch('to_json', 'circleci')(name, stored)) }}{% endmacro %}
{% macro default__to_json(name, stored) %}
    {%- set holds_json = 'json' in stored or 'char' in stored or 'text' in stored -%}
    {{ return(('cast(' ~ name ~ ' as json)') if holds_json else ('to_json(' ~ name ~ ')')) }}
{% endmacro %}
{% macro postgres__to_json(name, stored) %}
    {%- set json = ('to_jsonb(' ~ name ~ ')') if stored == 'array' or '[]' in stored else ('cast(' ~ name ~ ' as jsonb)') -%}
    {{ return('nullif(' ~ json ~ ", cast('null' as jsonb))") }}
{% endmacro %}
{% macro redshift__to_json(name, stored) %}
    {{ return(('json_serialize(' ~ name ~ ')') if 'super' in stored else ('cast(' ~ name ~ ' as varchar(65535))')) }}
{% endmacro %}
{% macro snowflake__to_json(name, stored) %}
    {%- set is_text = 'char' in stored or 'text' in stored or 'string' in stored -%}
    {{ return(('try_parse_json(' ~ name ~ ')') if is_text else ('to_variant(' ~ name ~ ')')) }}
{% endmacro %}
{% macro spark__to_json(name, stored) %}
    {{ return(('cast(' ~ name ~ ' as string)') if stored == 'string' else ('to_json(' ~ name ~ ')')) }}
{% endmacro %}
{% macro bigquery__to_json(name, stored) %}
    {{ return(name if stored == 'json' else ('safe.parse_json(' ~ name ~ ')') if stored == 'string' else ('to_json(' ~ name ~ ')')) }}
{% endmacro %}


{#- The text at a path of names and places in a JSON column, null if there is none. -#}
{% macro json_text(column, path) %}{{ return(adapter.dispatch('json_text', 'circleci')(column, path)) }}{% endmacro %}
{% macro default__json_text(column, path) %}
    {{ return('json_extract_string(' ~ column ~ ", '" ~ circleci.json_path(path) ~ "')") }}
{% endmacro %}
{% macro postgres__json_text(column, path) %}
    {{ return('(' ~ column ~ " #>> '{" ~ path | join(',') ~ "}')") }}
{% endmacro %}
{% macro redshift__json_text(column, path) %}
    {%- if path[-1] is number and path | length == 1 -%}
        {{ return('json_extract_array_element_text(' ~ column ~ ', ' ~ path[0] ~ ', true)') }}
    {%- elif path[0] is number -%}
        {%- set element = 'json_extract_array_element_text(' ~ column ~ ', ' ~ path[0] ~ ', true)' -%}
        {{ return('json_extract_path_text(' ~ element ~ ", '" ~ path[1:] | join("', '") ~ "', true)") }}
    {%- else -%}
        {{ return('nullif(json_extract_path_text(' ~ column ~ ", '" ~ path | join("', '") ~ "', true), '')") }}
    {%- endif -%}
{% endmacro %}
{% macro snowflake__json_text(column, path) %}
    {{ return('cast(get_path(' ~ column ~ ", '" ~ (circleci.json_path(path)[1:] | replace('.', '', 1) if path[0] is string else circleci.json_path(path)[1:]) ~ "') as varchar)") }}
{% endmacro %}
{% macro spark__json_text(column, path) %}
    {{ return('get_json_object(' ~ column ~ ", '" ~ circleci.json_path(path) ~ "')") }}
{% endmacro %}
{% macro bigquery__json_text(column, path) %}
    {{ return('json_value(' ~ column ~ ", '" ~ circleci.json_path(path) ~ "')") }}
{% endmacro %}

{% macro json_path(path) %}
    {%- set parts = ['$'] -%}
    {%- for part in path -%}{%- do parts.append(('[' ~ part ~ ']') if part is number else ('.' ~ part)) -%}{%- endfor -%}
    {{ return(parts | join('')) }}
{% endmacro %}


{#- A text as a literal. -#}
{% macro literal(text) %}{{ return(adapter.dispatch('literal', 'circleci')(text)) }}{% endmacro %}
{% macro default__literal(text) %}{{ return("'" ~ text | replace("'", "''") ~ "'") }}{% endmacro %}
{% macro snowflake__literal(text) %}
    {{ return("'" ~ text | replace('\\', '\\\\') | replace("'", "''") ~ "'") }}
{% endmacro %}
{% macro redshift__literal(text) %}{{ return(circleci.snowflake__literal(text)) }}{% endmacro %}
{% macro spark__literal(text) %}
    {{ return("'" ~ text | replace('\\', '\\\\') | replace("'", "\\'") ~ "'") }}
{% endmacro %}
{% macro bigquery__literal(text) %}{{ return(circleci.spark__literal(text)) }}{% endmacro %}


{#- The first line of a text in which a regular expression is found, whatever the case; else null. Expressions keep to
    what all warehouses know: plain groups, classes such as [0-9] instead of \d, no look-around, no backslashes. -#}
{% macro line_with(text, pattern) %}
    {{ return(adapter.dispatch('line_with', 'circleci')(text, '[^\\n]*(' ~ pattern ~ ')[^\\n]*')) }}
{% endmacro %}
{% macro default__line_with(text, pattern) %}
    {{ return('nullif(regexp_extract(' ~ text ~ ', ' ~ circleci.literal('(?i)' ~ pattern) ~ "), '')") }}
{% endmacro %}
{% macro postgres__line_with(text, pattern) %}
    {{ return('(regexp_match(' ~ text ~ ', ' ~ circleci.literal('(' ~ pattern ~ ')') ~ ", 'i'))[1]") }}
{% endmacro %}
{% macro redshift__line_with(text, pattern) %}
    {{ return('nullif(regexp_substr(' ~ text ~ ', ' ~ circleci.literal(pattern) ~ ", 1, 1, 'ip'), '')") }}
{% endmacro %}
{% macro snowflake__line_with(text, pattern) %}
    {{ return('regexp_substr(' ~ text ~ ', ' ~ circleci.literal(pattern) ~ ", 1, 1, 'i')") }}
{% endmacro %}
{% macro spark__line_with(text, pattern) %}
    {{ return('nullif(regexp_extract(' ~ text ~ ', ' ~ circleci.literal('(?i)' ~ pattern) ~ ", 0), '')") }}
{% endmacro %}
{% macro bigquery__line_with(text, pattern) %}
    {#- It gives the one group that there is. -#}
    {{ return('regexp_extract(' ~ text ~ ', ' ~ circleci.literal('(?i)(' ~ pattern | replace('(', '(?:') ~ ')') ~ ')') }}
{% endmacro %}


{#- The first characters of a text. -#}
{% macro start_of(text, characters) %}{{ return('substr(' ~ text ~ ', 1, ' ~ characters ~ ')') }}{% endmacro %}


{#- Seconds from one moment to another, to the millisecond, null if one is missing. -#}
{% macro seconds(first, last) %}{{ return(adapter.dispatch('seconds', 'circleci')(first, last)) }}{% endmacro %}
{% macro default__seconds(first, last) %}
    {{ return('cast(extract(epoch from (' ~ last ~ ' - ' ~ first ~ ')) as double precision)') }}
{% endmacro %}
{% macro redshift__seconds(first, last) %}
    {{ return('(datediff(millisecond, ' ~ first ~ ', ' ~ last ~ ') / cast(1000 as double precision))') }}
{% endmacro %}
{% macro snowflake__seconds(first, last) %}
    {{ return('(datediff(millisecond, ' ~ first ~ ', ' ~ last ~ ') / cast(1000 as double))') }}
{% endmacro %}
{% macro spark__seconds(first, last) %}
    {{ return('((unix_millis(' ~ last ~ ') - unix_millis(' ~ first ~ ')) / cast(1000 as double))') }}
{% endmacro %}
{% macro bigquery__seconds(first, last) %}
    {{ return('(timestamp_diff(' ~ last ~ ', ' ~ first ~ ', millisecond) / 1000)') }}
{% endmacro %}


{#- A moment so many hours later. -#}
{% macro plus_hours(moment, hours) %}{{ return(adapter.dispatch('plus_hours', 'circleci')(moment, hours)) }}{% endmacro %}
{% macro default__plus_hours(moment, hours) %}
    {{ return('(' ~ moment ~ ' + ' ~ hours ~ " * interval '1 hour')") }}
{% endmacro %}
{% macro snowflake__plus_hours(moment, hours) %}{{ return('dateadd(hour, ' ~ hours ~ ', ' ~ moment ~ ')') }}{% endmacro %}
{% macro redshift__plus_hours(moment, hours) %}{{ return('dateadd(hour, ' ~ hours ~ ', ' ~ moment ~ ')') }}{% endmacro %}
{% macro spark__plus_hours(moment, hours) %}
    {{ return('(' ~ moment ~ ' + make_dt_interval(0, ' ~ hours ~ '))') }}
{% endmacro %}
{% macro bigquery__plus_hours(moment, hours) %}
    {{ return('timestamp_add(' ~ moment ~ ', interval ' ~ hours ~ ' hour)') }}
{% endmacro %}


{#- A date so many days later. -#}
{% macro plus_days(date, days) %}{{ return(adapter.dispatch('plus_days', 'circleci')(date, days)) }}{% endmacro %}
{% macro default__plus_days(date, days) %}
    {{ return('cast(' ~ date ~ ' + ' ~ days ~ " * interval '1 day' as date)") }}
{% endmacro %}
{% macro snowflake__plus_days(date, days) %}{{ return('cast(dateadd(day, ' ~ days ~ ', ' ~ date ~ ') as date)') }}{% endmacro %}
{% macro redshift__plus_days(date, days) %}{{ return('cast(dateadd(day, ' ~ days ~ ', ' ~ date ~ ') as date)') }}{% endmacro %}
{% macro spark__plus_days(date, days) %}{{ return('date_add(' ~ date ~ ', cast(' ~ days ~ ' as int))') }}{% endmacro %}
{% macro bigquery__plus_days(date, days) %}{{ return('date_add(' ~ date ~ ', interval ' ~ days ~ ' day)') }}{% endmacro %}


{#- A moment in UTC as the clocks of circleci_timezone show it. -#}
{% macro local(moment) %}
    {{ return(adapter.dispatch('local', 'circleci')(moment, circleci.literal(var('circleci_timezone', 'UTC')))) }}
{% endmacro %}
{% macro default__local(moment, zone) %}
    {{ return('((' ~ moment ~ " at time zone 'UTC') at time zone " ~ zone ~ ')') }}
{% endmacro %}
{% macro snowflake__local(moment, zone) %}{{ return("convert_timezone('UTC', " ~ zone ~ ', ' ~ moment ~ ')') }}{% endmacro %}
{% macro redshift__local(moment, zone) %}{{ return("convert_timezone('UTC', " ~ zone ~ ', ' ~ moment ~ ')') }}{% endmacro %}
{% macro spark__local(moment, zone) %}{{ return('from_utc_timestamp(' ~ moment ~ ', ' ~ zone ~ ')') }}{% endmacro %}
{% macro bigquery__local(moment, zone) %}{{ return('datetime(' ~ moment ~ ', ' ~ zone ~ ')') }}{% endmacro %}


{#- The first day of the week (Monday) or month of a date. -#}
{% macro first_day_of(unit, date) %}{{ return(adapter.dispatch('first_day_of', 'circleci')(unit, date)) }}{% endmacro %}
{% macro default__first_day_of(unit, date) %}
    {{ return("cast(date_trunc('" ~ unit ~ "', " ~ date ~ ') as date)') }}
{% endmacro %}
{% macro snowflake__first_day_of(unit, date) %}
    {%- if unit == 'week' -%}
        {{ return('dateadd(day, 1 - dayofweekiso(' ~ date ~ '), ' ~ date ~ ')') }}
    {%- endif -%}
    {{ return("cast(date_trunc('" ~ unit ~ "', " ~ date ~ ') as date)') }}
{% endmacro %}
{% macro bigquery__first_day_of(unit, date) %}
    {{ return('date_trunc(' ~ date ~ ', ' ~ ('isoweek' if unit == 'week' else unit) ~ ')') }}
{% endmacro %}


{#- The day of the week, 1 for Monday to 7 for Sunday. -#}
{% macro weekday(moment) %}{{ return(adapter.dispatch('weekday', 'circleci')(moment)) }}{% endmacro %}
{% macro default__weekday(moment) %}{{ return('cast(extract(isodow from ' ~ moment ~ ') as bigint)') }}{% endmacro %}
{% macro redshift__weekday(moment) %}{{ return('(mod(date_part(dow, ' ~ moment ~ ') + 6, 7) + 1)') }}{% endmacro %}
{% macro snowflake__weekday(moment) %}{{ return('dayofweekiso(' ~ moment ~ ')') }}{% endmacro %}
{% macro spark__weekday(moment) %}{{ return('cast(weekday(' ~ moment ~ ') + 1 as bigint)') }}{% endmacro %}
{% macro bigquery__weekday(moment) %}
    {{ return('(mod(extract(dayofweek from ' ~ moment ~ ') + 5, 7) + 1)') }}
{% endmacro %}


{#- The hour of the day. -#}
{% macro hour(moment) %}{{ return('cast(extract(hour from ' ~ moment ~ ') as ' ~ circleci.type('bigint') ~ ')') }}{% endmacro %}


{#- The percentile of an expression's values; BigQuery has an approximate one only. -#}
{% macro percentile(expression, share) %}{{ return(adapter.dispatch('percentile', 'circleci')(expression, share)) }}{% endmacro %}
{% macro default__percentile(expression, share) %}
    {{ return('percentile_cont(' ~ share ~ ') within group (order by ' ~ expression ~ ')') }}
{% endmacro %}
{% macro spark__percentile(expression, share) %}{{ return('percentile(' ~ expression ~ ', ' ~ share ~ ')') }}{% endmacro %}
{% macro bigquery__percentile(expression, share) %}
    {{ return('approx_quantiles(' ~ expression ~ ', 1000 ignore nulls)[safe_offset(' ~ (share * 1000) | int ~ ')]') }}
{% endmacro %}


{#- How a table that grows is built: Spark's plain tables know no merge. -#}
{% macro growing() %}{{ return('table' if target.type == 'spark' else 'incremental') }}{% endmacro %}
