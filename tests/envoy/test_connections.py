"""What the compiled configuration does with connections: who may open one, TLS, and the source's address."""

import asyncio
import ssl

from tests.envoy.stand import Stand, gateway_spec, read_reply, running


async def test_tls_1_2_where_the_gateway_admits_it() -> None:
    tls = {"secretName": "server", "minimumVersion": "TLSv1_2"}
    async with running(gateway_spec(tls=tls)) as stand:
        old = stand.tls()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await stand.send(context=old)).status == 200


async def test_connections_are_limited() -> None:
    async with running(gateway_spec(http={"maxConnections": 1})) as stand:
        _reader, writer = await stand.connect()
        assert (await stand.send()).status == 0
        writer.transport.abort()


async def test_trusted_hop_names_the_source() -> None:
    spec = gateway_spec(trustedHops=1, frontCIDRs=["127.0.0.1/32"], sourceCIDRs=["203.0.113.0/24"])
    async with running(spec) as stand:
        await stand.send(headers=("X-Forwarded-For: 9.9.9.9, 203.0.113.7", "x-sw-source: 9.9.9.9"))
        assert stand.guard.seen[0].values("x-sw-source") == ["203.0.113.7"]
        assert (await stand.send(source="127.0.0.2")).status == 0
        entry, *_ = await stand.log_entries(1)
        assert (entry["source"], entry["peer"]) == ("203.0.113.7", "127.0.0.1")


async def test_proxy_protocol_names_the_source() -> None:
    spec = gateway_spec(proxyProtocol=True, frontCIDRs=["127.0.0.1/32"], sourceCIDRs=["203.0.113.0/24"])
    header = b"PROXY TCP4 203.0.113.7 127.0.0.1 1234 443\r\n"
    async with running(spec) as stand:
        assert (await stand.send(headers=("X-Forwarded-For: 9.9.9.9",), preface=header)).status == 200
        assert stand.guard.seen[0].values("x-sw-source") == ["203.0.113.7"]
        assert (await stand.send()).status == 0  # no header
        # A header that claims to come from the load balancer does not make a peer the load balancer.
        claim = b"PROXY TCP4 127.0.0.1 127.0.0.1 1234 443\r\n"
        assert (await stand.send(source="127.0.0.2", preface=claim)).status == 0
        assert len(stand.guard.seen) == 1


async def _served_certificate(stand: Stand) -> bytes:
    _reader, writer = await stand.connect()
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return certificate


async def test_certificate_is_swapped_under_an_open_connection() -> None:
    request = b"GET /v1/balance HTTP/1.1\r\nHost: a\r\n\r\n"
    async with running(gateway_spec()) as stand:
        reader, writer = await stand.connect()
        before = await _served_certificate(stand)
        stand.layout.swap_certificate()
        async with asyncio.timeout(20):
            while await _served_certificate(stand) == before:
                writer.write(request)
                assert (await read_reply(reader)).status == 200
        writer.write(request)
        assert (await read_reply(reader)).status == 200
        writer.transport.abort()
