"""What is watched of a model that serves: answers, outcomes, drift, alarms."""
