"""Hands over to the plugin, which has the options, the fixtures and the outcomes of claims."""

pytest_plugins = ["experiments.pytest_plugin"]
