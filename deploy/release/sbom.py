"""The bill of materials of an image, as CycloneDX 1.6 JSON."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.release.parts import Part

LICENCE: Final = "Apache-2.0"
# ours, for serial numbers that follow from the image
NAMESPACE: Final = uuid.UUID("6f4a7a2e-3f0b-5d0c-9a59-2b8a5a3c1d11")


def render(name: str, version: str, digest: str, built: datetime, parts: Sequence[Part]) -> str:
    """
    Render the bill of materials of an image; the same input gives the same text.

    Args:
        name: the image's name.
        version: the image's tag.
        digest: SHA-256 of the image's archive, hexadecimal.
        built: when, with a time zone.
        parts: what it is made of.

    Returns:
        JSON that was checked against the standard's own schema.

    Raises:
        ValueError: the result is not what the schema allows.

    """
    image = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=version,
        bom_ref=f"{name}@{version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[LicenseFactory().make_with_id(LICENCE)],
    )
    components = [_component(part) for part in parts]
    metadata = BomMetaData(component=image, timestamp=built)
    bom = Bom(components=components, metadata=metadata, serial_number=uuid.uuid5(NAMESPACE, digest))
    bom.register_dependency(image, components)
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    _check(text)
    return text


def _component(part: Part) -> Component:
    """Describe one part."""
    homepage = ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(part.homepage))
    return Component(
        type=ComponentType.LIBRARY,
        name=part.name,
        version=part.version,
        purl=part.purl,
        bom_ref=str(part.purl),
        licenses=part.licences,
        external_references=[homepage] if part.homepage else [],
    )


def _check(text: str) -> None:
    """Compare with the standard's schema."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        raise ValueError(f"the bill of materials is not CycloneDX: {wrong}")
