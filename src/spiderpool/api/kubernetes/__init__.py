"""The few fields of Kubernetes' own objects that this project reads."""
