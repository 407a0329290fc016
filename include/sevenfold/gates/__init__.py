"""Gates: policies, the rules they are made of, and the judgement of measurements by them."""
