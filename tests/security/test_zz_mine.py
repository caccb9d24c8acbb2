"""The outsider's walk over these routes alone."""
import sys
from tests.security import walker
_all = walker.routes
def mine():
    return [r for r in _all() if "ai-models" in r.path or "/api/models" in r.path or "model-preferences" in r.path]
import tests.security.test_outsider as t
t.routes = mine
from tests.security.test_outsider import test_who_may_not_is_refused_learns_nothing_and_changes_nothing, test_who_may_gets_what_is_declared_and_sees_what_is_theirs, pytestmark
