"""Whether a push arrives: an event of the doctor's, published here, comes back as rejected by its handler."""

from flowhook.deploy import deployed
from flowhook.deploy.clock import PATIENCE
from flowhook.deploy.errors import DeployError
from flowhook.deploy.messages import publish, tapped
from flowhook.deploy.resources import Place
from flowhook.deploy.rest import Api


def wait_for_push(api: Api, place: Place) -> None:
    """Wait until one has come all the way. Raises DeployError where none does within PATIENCE."""
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
