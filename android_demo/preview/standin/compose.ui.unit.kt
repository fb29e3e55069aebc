package androidx.compose.ui.unit

class Dp(private val value: Int) {
    override fun toString() = "${value}px"
}

val Int.dp: Dp get() = Dp(this)
