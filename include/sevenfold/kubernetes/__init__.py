"""What Kubernetes is asked and given, beside pods of activities and replicas."""
