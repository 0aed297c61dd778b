"""`steer search` and `steer tune`: settings priced on validation questions, and the plan that follows."""
