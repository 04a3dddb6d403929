{{ holds(ref('circleci__costs'), 'expected_costs', "coalesce(project_slug, 'gh/acme/shop') = 'gh/acme/shop'") }}
