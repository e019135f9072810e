"""The action head: fuses the video-text context, encodes the observed hands and forecasts actions by flow matching.

It is GR00T N1.5's (wheel lerobot 0.4.4, policies/groot/action_head): given the same weights and noise it gives the same
actions to float precision. Around its state and action spaces lie EggHand's linear maps, and it knows masks.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from .config import ActionHeadConfig
from .transformer import DiffusionTransformer, KeysValues, SelfAttention


class CategoryLinear(nn.Module):
    """One linear map a category (a robot embodiment in N1.5): x (B, N, inputs), category (B or 1,) -> (B, N,
    outputs)."""

    def __init__(self, categories: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(categories, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(categories, outputs))

    def forward(self, x: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        if len(category) == 1:  # one weight for all rows: no copy of it for each
            index = 0 if len(self.weight) == 1 else category
            return nn.functional.linear(
                x, self.weight[index].reshape(self.weight.shape[1:]).T, self.bias[index].ravel()
            )
        return torch.baddbmm(self.bias[category][:, None], x, self.weight[category])


class CategoryMLP(nn.Module):
    """Two category-specific linear maps with a ReLU between them."""

    def __init__(self, categories: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.inner = CategoryLinear(categories, inputs, hidden)
        self.outer = CategoryLinear(categories, hidden, outputs)

    def forward(self, x: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        return self.outer(torch.relu(self.inner(x, category)), category)


class ActionEncoder(nn.Module):
    """Noisy actions (B, S, inputs) and their flow time -> tokens (B, S, width) (GR00T N1, section 2.1)."""

    def __init__(self, categories: int, inputs: int, width: int):
        super().__init__()
        self.action = CategoryLinear(categories, inputs, width)
        self.join = CategoryLinear(categories, 2 * width, width)
        self.out = CategoryLinear(categories, width, width)

    def forward(self, actions: torch.Tensor, bucket: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
        embedded = self.action(actions, category)
        half = embedded.shape[-1] // 2
        rate = torch.exp(torch.arange(half, device=bucket.device) * (-torch.log(torch.tensor(10000.0)) / half))
        angle = bucket[:, None].float() * rate
        time = torch.cat([angle.sin(), angle.cos()], dim=-1).to(embedded.dtype)[:, None].expand_as(embedded)
        return self.out(nn.functional.silu(self.join(torch.cat([embedded, time], dim=-1), category)), category)


@dataclass(frozen=True)
class Conditioning:
    """What every integration step looks at, computed once.

    state (B, T, width), state_mask (B, T) or None, category (B or 1,), the context's keys and values for each
    block that attends to it, context_mask (B, L) or None.
    """

    state: torch.Tensor
    state_mask: torch.Tensor | None
    category: torch.Tensor
    context: list[KeysValues]
    context_mask: torch.Tensor | None

    def repeat(self, count: int) -> "Conditioning":
        """Each row `count` times in a row, for `count` hypotheses of each."""
        if count == 1:
            return self
        again = lambda x: None if x is None else x.repeat_interleave(count, dim=0)  # noqa: E731
        return replace(
            self,
            state=again(self.state),
            state_mask=again(self.state_mask),
            category=self.category if len(self.category) == 1 else again(self.category),
            context=[(again(key), again(value)) for key, value in self.context],
            context_mask=again(self.context_mask),
        )


class ActionHead(nn.Module):
    """Context tokens and observations in, velocity of noisy actions out. Sampling is `FlowMatching`'s work."""

    def __init__(self, config: ActionHeadConfig):
        super().__init__()
        self.config = config
        state = config.latent_state_width or config.state_width
        action = config.latent_action_width or config.action_width
        self.latent_action_width = action
        self.state_in = _linear(config.state_width, config.latent_state_width)
        self.action_in = _linear(config.action_width, config.latent_action_width)
        self.action_out = _linear(config.latent_action_width, config.action_width)
        self.state_encoder = CategoryMLP(config.categories, state, config.hidden_width, config.width)
        self.action_encoder = ActionEncoder(config.categories, action, config.width)
        self.action_decoder = CategoryMLP(config.categories, config.hidden_width, config.hidden_width, action)
        self.action_position = _positions(config.action_positions, config.width)
        self.future = _positions(config.future_tokens, config.width)
        self.context_norm = nn.LayerNorm(config.context_width)
        self.fusion = SelfAttention(config.context_width, config.fusion_heads, config.fusion_layers, config.dropout)
        self.transformer = DiffusionTransformer(
            config.width, config.heads, config.layers, config.context_width, config.hidden_width, config.dropout
        )

    def condition(
        self,
        state: torch.Tensor,
        state_mask: torch.Tensor | None,
        context: torch.Tensor,
        context_mask: torch.Tensor | None,
        category: torch.Tensor,
    ) -> Conditioning:
        """Encode observations (B, T, state_width) and fuse the context (B, L, context_width).

        Masks are True where something is seen. L may be 0 where there is no video and no text.
        """
        tokens = self.state_encoder(self.state_in(state), category)
        fused = self.fusion(self.context_norm(context), context_mask)
        if fused.shape[1] == 0:  # an empty context is one that nobody sees
            fused = fused.new_zeros(len(fused), 1, fused.shape[-1])
            context_mask = torch.zeros(fused.shape[:2], dtype=torch.bool, device=fused.device)
        return Conditioning(tokens, state_mask, category, self.transformer.context_keys(fused), context_mask)

    def velocity(self, noisy: torch.Tensor, bucket: torch.Tensor, given: Conditioning) -> torch.Tensor:
        """Velocity (B, S, latent_action_width) of noisy latent actions at buckets (B or 1,)."""
        steps = noisy.shape[1]
        tokens = self.action_encoder(noisy, bucket, given.category) + self.action_position[:steps]
        future = [] if self.future is None else [self.future.expand(len(noisy), -1, -1)]
        sequence = torch.cat([given.state, *future, tokens], dim=1)
        mask = given.state_mask
        if mask is not None:
            mask = nn.functional.pad(mask, (0, sequence.shape[1] - mask.shape[1]), value=True)
        out = self.transformer(sequence, bucket, given.context, mask, given.context_mask)[:, -steps:]
        return self.action_decoder(out, given.category)

    def sample(self, given: Conditioning, noise: torch.Tensor, steps: int | None = None) -> torch.Tensor:
        """Actions (B, S, action_width) integrated from latent noise (B, S, latent_action_width)."""
        latent = self.config.flow.sample(lambda x, bucket: self.velocity(x, bucket, given), noise, steps)
        return self.action_out(latent)

    def flow_loss(
        self,
        given: Conditioning,
        actions: torch.Tensor,
        mask: torch.Tensor,
        noise: torch.Tensor,
        time: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error of the velocity, over what `mask` shows of actions (B, S, action_width).

        noise (B, S, latent_action_width), time (B,). Compared in the outer action space, as EggHand's code does.
        """
        noisy = self.config.flow.interpolate(noise, self.action_in(actions * mask), time)
        predicted = self.action_out(self.velocity(noisy, self.config.flow.bucket(time), given))
        error = (predicted - (actions - self.action_out(noise))) ** 2
        return (error * mask).sum() / mask.sum().clamp(min=1)


def _positions(count: int, width: int) -> nn.Parameter | None:
    return nn.Parameter(0.02 * torch.randn(count, width)) if count else None


def _linear(inputs: int, outputs: int) -> nn.Module:
    if not (inputs and outputs):
        return nn.Identity()
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
