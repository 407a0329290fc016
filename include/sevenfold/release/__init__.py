"""What production serves, how that changes, and who keeps routers and registry in step with it."""
