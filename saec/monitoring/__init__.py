"""Where the pipeline stands, which alarms that sets off, and both as Prometheus metrics; no model is ever loaded."""
