"""What pytest sees: options, hooks, outcomes, and the session behind them."""
