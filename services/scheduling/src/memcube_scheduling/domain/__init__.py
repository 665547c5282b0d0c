"""How a schedule is made, without a look at the world: scores, what says the same, the choice, the rendering."""
