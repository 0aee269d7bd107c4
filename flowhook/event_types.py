"""The event types and patterns as types, so that an editor completes them and a type checker knows them.

They can't be derived, because a type checker doesn't run code. A test compares them with the categories and
operations.
"""

from typing import Literal

CommentType = Literal["packet_comments.created", "packet_comments.updated", "packet_comments.deleted"]
CommentPattern = Literal[
    "packet_comments.*",
    "packet_comments.created",
    "packet_comments.updated",
    "packet_comments.deleted",
]
OtherType = Literal[
    "packets.created",
    "packets.updated",
    "packets.deleted",
    "pipelines.created",
    "pipelines.updated",
    "pipelines.deleted",
    "users.created",
    "users.updated",
    "users.deleted",
    "entities.created",
    "entities.updated",
    "entities.deleted",
    "projects.created",
    "projects.updated",
    "projects.deleted",
    "pipeline_labels.created",
    "pipeline_labels.updated",
    "pipeline_labels.deleted",
    "packet_labels.created",
    "packet_labels.updated",
    "packet_labels.deleted",
]
EventType = Literal[CommentType, OtherType]
OtherPattern = Literal[
    "*",
    "*.created",
    "*.updated",
    "*.deleted",
    "packets.*",
    "pipelines.*",
    "users.*",
    "entities.*",
    "projects.*",
    "pipeline_labels.*",
    "packet_labels.*",
    "other.*",
    "other.created",
    "other.updated",
    "other.deleted",
]
EventPattern = Literal[CommentPattern, OtherType, OtherPattern]
