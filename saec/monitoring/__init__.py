"""Reports the state of the pipeline and its alarms, also as Prometheus metrics; loads no model."""
