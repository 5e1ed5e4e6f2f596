"""Names that JSON or Envoy's format strings may take for something else, in the access log."""

from aiohttp import web

from tests.envoy.stand import gateway_spec, running

NAMES = ("n", "y", "no", "null", "true", "nan", "e3", "x1", "none", "application", "guard", "a-", "z" * 31)
ACCOUNTS = ("n", "null", "true", "1e3", "0x1", "0", "007", "none", "a" * 40)


async def test_the_access_log_tells_names_as_texts() -> None:
    operations = [{"name": name, "method": "POST", "path": f"/{name}"} for name in NAMES]
    async with running(gateway_spec(http={"operations": operations})) as stand:
        for name in NAMES:
            assert (await stand.send(path=f"/{name}")).status == 200
        for account in ACCOUNTS:
            identity = {"x-sw-account": account, "x-sw-key": "1e3"}
            stand.guard.answer = lambda _seen, headers=identity: web.Response(headers=headers)  # type: ignore[misc]
            assert (await stand.send(path="/null")).status == 200
        entries = await stand.log_entries(len(NAMES) + len(ACCOUNTS))
    operated, identified = entries[: len(NAMES)], entries[len(NAMES) :]
    assert [entry["operation"] for entry in operated] == list(NAMES)
    assert [entry["account"] for entry in identified] == list(ACCOUNTS)
    assert {entry["key"] for entry in identified} == {"1e3"}


async def test_an_operation_called_none_is_not_taken_for_no_operation_in_the_access_log() -> None:
    """Only an operation has a method there."""
    operations = [{"name": "none", "method": "POST", "path": "/none"}]
    async with running(gateway_spec(http={"operations": operations})) as stand:
        assert (await stand.send(path="/none")).status == 200
        assert (await stand.send(path="/other")).status == 404
        operated, unknown = await stand.log_entries(2)
    assert (operated["operation"], operated["method"]) == ("none", "POST")
    assert unknown["operation"] == "none"
    assert "method" not in unknown
