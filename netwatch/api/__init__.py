"""REST, pages, events and metrics. The only package that imports flask."""
