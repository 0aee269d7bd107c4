from flowhook import CommentEvent, on


@on("packet_comments.created")
def greet(event: CommentEvent) -> None:
    print(f"{event.properties.created_by} says: {event.properties.content}", flush=True)
