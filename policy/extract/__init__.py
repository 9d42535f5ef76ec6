"""The grammar's tree read into facts.

What is not executed (EXPLAIN without ANALYZE, the query of a view) yields no facts about data; what is stored to be executed later
(functions, rules, prepared statements) is judged on its own and kept under its name.
"""

from policy.extract.extractor import Extractor
from policy.extract.table import VISITORS

__all__ = ["VISITORS", "Extractor"]
