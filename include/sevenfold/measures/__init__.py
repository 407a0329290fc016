"""How good predictions and answers are: numbers with intervals, alone and beside a champion's."""
