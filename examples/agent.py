"""An agent that learns and recalls: run it twice, and the second time it knows.

MEMCUBE_URL and MEMCUBE_KEY say where its memory is; `memcube status --json` prints both.
"""
# ruff: noqa: T201

import asyncio

from memcube import MemCubeClient

QUESTION = "Is it safe to release on the last workday of the week?"
LESSON = "Deploys on Friday afternoons were rolled back twice as often as others; ship on Tuesday mornings."


async def main() -> None:
    async with MemCubeClient.from_environment() as client:
        known = await client.memories.query(text=QUESTION, tags=["release"], limit=3)
        for memory in known:
            print(f"I remember: {memory.content}")
        if not known:
            print("I know nothing about releases yet. Learning …")
            receipt = await client.insights.submit(LESSON, tags=["release"], agent_id="release-bot", sentiment=-0.5)
            receipt = await client.receipts.wait(receipt.id, until="searchable", timeout=30)
            print(f"Learned: {receipt.memory_id} is {receipt.state}. Run me again.")


if __name__ == "__main__":
    asyncio.run(main())
