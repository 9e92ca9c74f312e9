"""Everything that one set of options describes: plan, store, findings, forecast."""
