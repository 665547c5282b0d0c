"""What screening knows by name: the closed list of kinds, in the order in which they win where two overlap."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "secret:private_key": "A private key in PEM, OpenSSH, PGP or PuTTY form, as a whole.",
        "secret:memcube_key": "A key of this house (`mc_sec_…`, `mc_pub_…`) whose checksum is right.",
        "secret:jwt": "A JSON Web Token: its first part says an algorithm.",
        "secret:aws_key": "An AWS access key id, or a secret access key beside its name.",
        "secret:anthropic_key": "An Anthropic API key (`sk-ant-…`).",
        "secret:artifactory_token": "An Artifactory API token or encrypted password.",
        "secret:azure_key": "The `AccountKey` of an Azure storage account.",
        "secret:discord_token": "A Discord bot's token.",
        "secret:docker_token": "A Docker access token (`dckr_pat_…`).",
        "secret:github_token": "A GitHub token (`ghp_…`, `github_pat_…` and their kin).",
        "secret:gitlab_token": "A GitLab token (`glpat-…` and its kin).",
        "secret:google_key": "A Google API key (`AIza…`).",
        "secret:huggingface_token": "A Hugging Face access token (`hf_…`).",
        "secret:mailchimp_key": "A Mailchimp API key.",
        "secret:npm_token": "An npm access token (`npm_…`), or the `_authToken` of an .npmrc.",
        "secret:openai_key": "An OpenAI API key (`sk-…`, `sk-proj-…`).",
        "secret:pypi_token": "A PyPI upload token.",
        "secret:sendgrid_key": "A SendGrid API key.",
        "secret:slack_token": "A Slack token or webhook address.",
        "secret:square_token": "A Square OAuth secret.",
        "secret:stripe_key": "A live Stripe key.",
        "secret:telegram_token": "A Telegram bot's token.",
        "secret:twilio_key": "A Twilio account or API key id.",
        "secret:basic_auth": "The password of an address such as `https://name:password@host`.",
        "iban": "An International Bank Account Number: its country's length, and mod 97.",
        "credit_card": "A payment card's number: an issuer's prefix and length, and the Luhn digit.",
        "us_ssn": "A United States Social Security number, with its dashes.",
        "br_cpf": "A Brazilian CPF, with its dots, by its check digits.",
        "it_codice_fiscale": "An Italian codice fiscale, by its check character.",
        "phone": "A telephone number that exists: international with `+`, or North American with its separators.",
        "email": "An e-mail address.",
        "ip_address": "A public IPv4 or IPv6 address.",
    }
)
"""Kind to what it means. What is not in this list is never said in `governance.pii_kinds` by screening."""

RANK: Final[Mapping[str, int]] = MappingProxyType({kind: rank for rank, kind in enumerate(KINDS)})
"""Where two findings overlap, the kind that stands first here is replaced; the text is then looked at again."""
