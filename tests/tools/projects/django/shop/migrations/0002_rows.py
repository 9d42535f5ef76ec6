from __future__ import annotations

from django.db import migrations

ROWS = {
    "product": "SELECT g, 'row ' || g",
    "country": "SELECT g, 'row ' || g",
    "city": "SELECT g, 'row ' || g, 1",
    "customer": "SELECT g, 'row ' || g, 1, 1",
    "order": "SELECT g, 1",
    "payment": "SELECT g, 9.5, 1",
    "review": "SELECT g, 5, 1",
    "phone": "SELECT g, 'row ' || g, 1",
}


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]  # noqa: RUF012
    operations = [  # noqa: RUF012
        migrations.RunSQL(f"INSERT INTO shop_{table} {rows} FROM generate_series(1, 4) g", migrations.RunSQL.noop)
        for table, rows in ROWS.items()
    ]
