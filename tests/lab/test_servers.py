"""The lab itself: every server serves, and behaves as the other lab tests rely on."""

import json
import urllib.error
from typing import Any

import pytest

from tests.lab import BRIDGE_ADDRESS
from tests.lab.http import Api
from tests.lab.prerequisites import LabError
from tests.lab.servers import APISERVER, CONTROLLER_MANAGER, ETCD, VAULT, Lab

pytestmark = pytest.mark.lab

_POLICY = {"policy": 'path "sys/health" { capabilities = ["read"] }'}


def _kubernetes(lab: Lab) -> tuple[Api, dict[str, str]]:
    return Api(lab.apiserver_url, lab.ca_file), {"Authorization": f"Bearer {lab.admin_token}"}


def _vault(lab: Lab) -> tuple[Api, dict[str, str]]:
    return Api(lab.vault_address, lab.ca_file), {"X-Vault-Token": lab.vault_token}


def _token(lab: Lab, namespace: str) -> str:
    """Of the namespace's default service account, once the controller manager has made it."""
    lab.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=60s")
    return lab.kubectl("create", "token", "default", "-n", namespace).strip()


def _review(lab: Lab, token: str) -> Any:
    api, headers = _kubernetes(lab)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    return api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body, headers=headers)["status"]


def test_api_server_reports_its_version_to_token_and_kubeconfig(servers: Lab) -> None:
    api, headers = _kubernetes(servers)
    assert api.call("GET", "/version", headers=headers)["gitVersion"] == "v1.34.4"
    assert servers.kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_api_server_authorizes_by_rbac(servers: Lab, namespace: str) -> None:
    token = _token(servers, namespace)
    with pytest.raises(urllib.error.HTTPError) as caught:
        Api(servers.apiserver_url, servers.ca_file).call(
            "GET", "/api/v1/secrets", headers={"Authorization": f"Bearer {token}"}
        )
    with caught.value as answer:
        assert answer.code == 403


def test_token_review_knows_service_accounts_and_refuses_others(servers: Lab, namespace: str) -> None:
    token = _token(servers, namespace)
    status = _review(servers, token)
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:default"
    assert not _review(servers, token[:-8] + "AAAAAAAA").get("authenticated")


def test_pods_find_the_api_server_at_the_bridge(servers: Lab) -> None:
    endpoints = json.loads(servers.kubectl("get", "endpoints", "kubernetes", "-o", "json"))
    assert endpoints["subsets"][0]["addresses"] == [{"ip": BRIDGE_ADDRESS}]


def test_controllers_make_pods_of_a_deployment_and_collect_them(servers: Lab, namespace: str) -> None:
    servers.kubectl("create", "deployment", "web", "--image=none", "--replicas=2", "-n", namespace)
    servers.kubectl("wait", "deployment/web", "--for=jsonpath={.status.replicas}=2", "-n", namespace)
    servers.kubectl("delete", "deployment/web", "--cascade=foreground", "--timeout=30s", "-n", namespace)
    assert servers.kubectl("get", "replicasets,pods", "-o", "name", "-n", namespace) == ""


def test_vault_refuses_while_sealed_and_keeps_its_data(vault_server: Lab) -> None:
    api, headers = _vault(vault_server)
    api.call("POST", "/v1/sys/mounts/sealtest", {"type": "kv", "options": {"version": "2"}}, headers=headers)
    vault_server.seal_vault()
    with pytest.raises(urllib.error.HTTPError) as caught:
        api.call("GET", "/v1/sys/mounts", headers=headers)
    with caught.value as answer:
        assert answer.code == 503
    vault_server.unseal_vault()
    assert "sealtest/" in api.call("GET", "/v1/sys/mounts", headers=headers)["data"]
    api.call("DELETE", "/v1/sys/mounts/sealtest", headers=headers)


def test_vault_audits_every_call_without_clear_values(vault_server: Lab) -> None:
    api, headers = _vault(vault_server)
    api.call("PUT", "/v1/sys/policies/acl/audited", {"policy": "# canary-of-the-audit"}, headers=headers)
    audit = vault_server.vault_audit_log.read_text()
    assert "sys/policies/acl/audited" in audit
    assert "canary-of-the-audit" not in audit


def test_vault_logs_a_service_account_in_by_jwt(servers: Lab, namespace: str) -> None:
    api, headers = _vault(servers)
    api.call("POST", "/v1/sys/auth/jwt-test", {"type": "jwt"}, headers=headers)
    config = {
        "jwt_validation_pubkeys": [servers.service_account_public_key_pem],
        "bound_issuer": servers.service_account_issuer,
    }
    api.call("POST", "/v1/auth/jwt-test/config", config, headers=headers)
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_subject": f"system:serviceaccount:{namespace}:default",
        "bound_audiences": ["vault"],
    }
    api.call("POST", "/v1/auth/jwt-test/role/r", role, headers=headers)
    token = servers.kubectl("create", "token", "default", "--audience=vault", "-n", namespace).strip()
    answer = api.call("POST", "/v1/auth/jwt-test/login", {"role": "r", "jwt": token})
    assert answer["auth"]["client_token"]
    api.call("DELETE", "/v1/sys/auth/jwt-test", headers=headers)


@pytest.mark.parametrize("name", [ETCD, APISERVER, CONTROLLER_MANAGER, VAULT])
def test_a_killed_server_comes_back_with_its_data(servers: Lab, namespace: str, name: str) -> None:
    api, headers = _vault(servers)
    api.call("PUT", "/v1/sys/policies/acl/survives", _POLICY, headers=headers)
    servers.kill(name)
    assert not servers.running(name)
    servers.restart(name)
    assert namespace in servers.kubectl("get", "namespaces", "-o", "name")
    assert api.call("GET", "/v1/sys/policies/acl/survives", headers=headers)["data"]["name"] == "survives"


def test_kubectl_errors_carry_its_message(apiserver: Lab) -> None:
    with pytest.raises(LabError, match="the server doesn't have a resource type"):
        apiserver.kubectl("get", "nothings")
