{{ config(enabled=var('circleci_using_checkout_keys', false)) }}

with latest as (
{{ circleci.latest('checkout_keys', key=['_project_slug', 'fingerprint'], columns={
    '_project_slug': 'text',
    'fingerprint': 'text',
    'type': 'text',
    'public_key': 'text',
    'preferred': 'boolean',
    'created_at': 'timestamp',
}) }}
)

select
    _project_slug as project_slug,
    fingerprint,
    type,
    public_key,
    preferred,
    created_at
from latest
