"""What a held statement would do, found out on connections of pghold's own before anybody decides."""
