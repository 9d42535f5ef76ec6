"""pghold watch: holds as they come and go, on the whole screen or as lines."""
