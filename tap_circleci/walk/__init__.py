"""The walk through a project's pipelines: what is due, and what lies below."""
