"""The served models: names, versions and leases, with engines that do nothing."""

import asyncio
from types import SimpleNamespace

import pytest
from textcam_service.errors import InvalidArgument, ModelLoading, UnknownModel, UnknownVersion
from textcam_service.serving.engine.jobs import ModelRef
from textcam_service.serving.registry.registry import ModelRegistry
from textcam_service.settings import ServerSettings


class IdleEngine:
    def __init__(self, name, version):
        self.bundle = SimpleNamespace(name=name, version=version)
        self.closed = False

    async def close(self, patience_s):
        self.closed = True


@pytest.fixture
def changes():
    return []


@pytest.fixture
def registry_of(changes):
    def made(**settings):
        metrics = SimpleNamespace(describe=lambda bundle: None)
        return ModelRegistry(ServerSettings(**settings), metrics, lambda: changes.append(1))

    return made


async def test_a_name_is_resolved_only_if_one_model_is_served(registry_of):
    models = registry_of()
    with pytest.raises(ModelLoading):
        models.resolve_name("")
    models.promote(IdleEngine("a", "1"))
    assert (models.resolve_name(""), models.resolve_name("other")) == ("a", "other")
    models.promote(IdleEngine("b", "1"))
    with pytest.raises(InvalidArgument, match=r"name one of 'a', 'b'$"):
        models.resolve_name("")


async def test_errors_name_only_models_that_the_caller_may_see(registry_of):
    models = registry_of()
    for name in "abc":
        models.promote(IdleEngine(name, "1"))
    only_b = models.lease(ModelRef("d"), lambda name: name == "b")
    with pytest.raises(UnknownModel, match=r"'d' is served here, only 'b'$"), only_b:
        pass
    with pytest.raises(InvalidArgument, match=r"name one$"):
        models.resolve_name("", lambda name: False)


async def test_a_model_that_is_to_be_served_is_loading_until_it_is(registry_of):
    models = registry_of(store="s", store_models=("a",))
    assert not models.is_ready()
    with pytest.raises(ModelLoading, match="'a' is not loaded yet"), models.lease(ModelRef("a")):
        pass
    models.promote(IdleEngine("a", "1"))
    assert models.is_ready()
    assert models.is_ready("a")
    assert not models.is_ready("b")


async def test_versions_that_are_kept_can_be_named_and_found(registry_of):
    models, engines = registry_of(store_keep=1), [IdleEngine("a", str(n)) for n in range(3)]
    for engine in engines:
        models.promote(engine)
    assert models.versions("a") == ("2", "1")
    assert models.find("a", "1") is engines[1]
    assert models.find("a", "0") is None
    with models.lease(ModelRef("a", "1")) as engine:
        assert engine is engines[1]
    gone = models.lease(ModelRef("a", "0"))
    with pytest.raises(UnknownVersion, match="in version '2', '1', not '0'"), gone:
        pass
    models.promote(engines[1])
    assert models.versions("a") == ("1", "2")
    assert [own.version for own in models.current] == ["1"]


async def test_a_version_closes_only_after_its_last_lease(registry_of, changes):
    models, old, new = registry_of(), IdleEngine("a", "1"), IdleEngine("a", "2")
    models.promote(old)
    with models.lease(ModelRef("a")) as leased, models.lease(ModelRef("a")):
        assert leased is old
        models.promote(new)
        await asyncio.sleep(0.01)
        assert not old.closed
        with models.lease(ModelRef("a")) as current:
            assert current is new
    await asyncio.sleep(0.01)
    assert old.closed
    assert len(changes) == 2


async def test_all_versions_are_closed_at_the_end_leased_or_not(registry_of):
    models, engines = registry_of(), [IdleEngine("a", str(n)) for n in range(2)]
    models.promote(engines[0])
    with models.lease(ModelRef("a")):
        models.promote(engines[1])
        await models.close(0)
        assert [engine.closed for engine in engines] == [True, True]
