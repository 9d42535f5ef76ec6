from __future__ import annotations

from django.test import TestCase, TransactionTestCase

from shop.models import Country


class ShopTest(TestCase):
    def test_a_country_is_found_again(self) -> None:
        Country.objects.create(id=100, name="Peru")
        assert Country.objects.filter(name="Peru").count() == 1


class CommittedTest(TransactionTestCase):
    """Its rows are committed, so that everything is flushed behind it."""

    def test_a_country_is_stored(self) -> None:
        Country.objects.create(id=100, name="Peru")
        assert Country.objects.count() == 5
