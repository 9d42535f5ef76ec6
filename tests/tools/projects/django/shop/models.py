"""The shop as it is after the last migration."""

from __future__ import annotations

from django.db import models


class Country(models.Model):
    name = models.TextField()


class City(models.Model):
    name = models.TextField()
    country = models.ForeignKey(Country, models.CASCADE)


class Customer(models.Model):
    city = models.ForeignKey(City, models.CASCADE)


class Product(models.Model):
    name = models.TextField()


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    products = models.ManyToManyField(Product)


class Payment(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
