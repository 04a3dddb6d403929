{#- No two rows share these columns. -#}
{% test circleci_unique_key(model, columns) %}
select {{ columns | join(', ') }}, count(*) as copies
from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endtest %}


{#- No value of a column is outside these bounds; nulls pass. -#}
{% test circleci_between(model, column_name, least, most=none) %}
select {{ column_name }}
from {{ model }}
where {{ column_name }} < {{ least }}{% if most is not none %} or {{ column_name }} > {{ most }}{% endif %}
{% endtest %}
