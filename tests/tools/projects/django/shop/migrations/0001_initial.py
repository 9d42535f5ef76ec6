from __future__ import annotations

from django.db import migrations, models

KEY = ("id", models.BigAutoField(primary_key=True))


def to(name: str, **options: bool) -> models.ForeignKey:
    return models.ForeignKey(f"shop.{name}", models.CASCADE, **options)


class Migration(migrations.Migration):
    initial = True
    dependencies = []  # noqa: RUF012
    operations = [  # noqa: RUF012
        migrations.CreateModel("Product", [KEY, ("name", models.TextField())]),
        migrations.CreateModel("Country", [KEY, ("name", models.TextField())]),
        migrations.CreateModel("City", [KEY, ("name", models.TextField()), ("country", to("Country"))]),
        migrations.CreateModel(
            "Customer", [KEY, ("name", models.TextField(null=True)), ("city", to("City")), ("favourite", to("Product", null=True))]
        ),
        migrations.CreateModel("Order", [KEY, ("customer", to("Customer")), ("products", models.ManyToManyField("shop.Product"))]),
        migrations.CreateModel("Payment", [KEY, ("amount", models.DecimalField(max_digits=10, decimal_places=2)), ("order", to("Order"))]),
        migrations.CreateModel("Review", [KEY, ("stars", models.IntegerField()), ("product", to("Product"))]),
        migrations.CreateModel("Phone", [KEY, ("number", models.TextField()), ("customer", to("Customer"))]),
    ]
