"""How others, and we, steer a migration: `registry` has them by name, `base` what one is."""
