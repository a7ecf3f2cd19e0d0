"""What the chart's jobs run before, after and at the end of an installation."""
