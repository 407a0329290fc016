"""The gateway: a real Envoy, told by files what to serve and whom to let in.

`routes` (which request goes where), `clusters` (who answers), `filters` (who may ask) and `bootstrap` (how
Envoy starts) are pure: values in, Envoy resources out. `local.Gateway` puts them in front of Envoy:
of this machine's, or of the one in its own pod (`pod`). Who changes a release row and is not beside an Envoy
waits by `remote` until all of them serve it.
"""

from sevenfold.gateway.local import Gateway, GatewayRefused, StaleTraffic, local_gateway
from sevenfold.release.reconcile import Router
from sevenfold.release.traffic import Traffic
from sevenfold.serving.keys import GatewayKeys
from sevenfold.settings import settings

__all__ = ["Gateway", "GatewayRefused", "StaleTraffic", "Traffic", "local_gateway", "open_gateway"]


def open_gateway(environment: str = "production", *, hurry: bool = False) -> Router:
    """The gateway of an environment, callers' by default. On a laptop one Envoy is the gateway of all.

    In a `hurry`, as on the way back, a gateway of a cluster that does not answer is named and not waited for.
    """
    here = settings()
    if here.runtime == "local":
        return local_gateway()
    from sevenfold.gateway.gateway_api import ENVIRONMENT, RouteGateway
    from sevenfold.gateway.remote import RemoteGateway
    from sevenfold.kubernetes.api import KubernetesApi

    if here.gateway_api and environment == ENVIRONMENT:
        return RouteGateway(here, KubernetesApi(here), GatewayKeys(here.secrets).jwks)
    return RemoteGateway(here, KubernetesApi(here), environment, hurry=hurry)
