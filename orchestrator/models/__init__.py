"""Models: the doors to tokens, and the backends behind them."""
