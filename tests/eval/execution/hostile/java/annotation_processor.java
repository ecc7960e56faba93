// Brings an annotation processor, which would run within the compiler.
// verdict: wrong answer
import java.util.Set;
import javax.annotation.processing.AbstractProcessor;
import javax.annotation.processing.RoundEnvironment;
import javax.lang.model.element.TypeElement;

@interface Now {}

class Hostile extends AbstractProcessor {
    static {
        System.exit(0);
    }

    @Override
    public boolean process(Set<? extends TypeElement> found, RoundEnvironment round) {
        return true;
    }
}

@Now
class Solution {
    int answer() {
        return 41;
    }
}
