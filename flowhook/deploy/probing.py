"""Tests whether Pub/Sub's pushes arrive in `consume`.

It publishes an event of the `doctor` command. The handler for such events rejects each of them, so the event
arrives in the topic of rejected bodies once it has been pushed to `consume`.
"""

from flowhook.deploy import deployed
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError
from flowhook.deploy.messages import publish, tapped
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api


def wait_for_push(api: Api, place: Place) -> None:
    """Publish a test event and wait until it has arrived. Raises DeployError after PATIENCE seconds."""
    body, attributes = deployed.doctors_event()
    with tapped(api, place, place.called("rejected"), f'attributes.handler = "{deployed.DOCTOR}"') as tap:
        api.tell(f"Waiting for a push to arrive in {place.called('consume')}.")
        publish(api, place, place.called("events"), [(body, attributes)])
        if not tap.wait(lambda message: message.data == body, PATIENCE):
            raise DeployError(
                f"no push has arrived in {place.called('consume')} for {PATIENCE / 60:.0f} minutes, so "
                "nothing is pushed to the handlers yet, and nothing is lost: what is published waits. The "
                "log says why: https://console.cloud.google.com/run/detail/"
                f"{place.region}/{place.called('consume')}/logs?project={place.project}"
            )
