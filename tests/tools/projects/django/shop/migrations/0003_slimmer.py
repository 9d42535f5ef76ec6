from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_rows")]  # noqa: RUF012
    operations = [  # noqa: RUF012
        migrations.RemoveField("Customer", "name"),
        migrations.RemoveField("Customer", "favourite"),
        migrations.DeleteModel("Review"),
        migrations.DeleteModel("Phone"),
    ]
