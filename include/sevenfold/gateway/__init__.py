"""The gateway: a real Envoy, told by files what to serve and whom to let in.

`routes` (which request goes where), `clusters` (who answers), `filters` (who may ask) and `bootstrap` (how
Envoy starts) are pure: values in, Envoy resources out. `local.Gateway` puts them in front of Envoy.
"""

from sevenfold.gateway.local import Gateway, GatewayRefused, StaleTraffic, local_gateway
from sevenfold.traffic import Traffic

__all__ = ["Gateway", "GatewayRefused", "StaleTraffic", "Traffic", "local_gateway"]
