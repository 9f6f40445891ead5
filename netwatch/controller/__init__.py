"""The half of netwatch that remembers: stores, graph, detectors, alerts, webhooks."""
